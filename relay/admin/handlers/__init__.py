"""The handlers of the admin API, one module for each subject."""
