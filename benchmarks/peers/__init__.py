"""The balancers compared: one file each, with its configuration, tuned as its friends would."""
