"""The forms that models of own code are saved in, one a file: opened, understood, tried."""
