"""Published models of `transformers`: a list of good ones, finding, downloading and loading any."""
