"""Programs for those who work on relay. Neither relay nor a package of it contains them."""
