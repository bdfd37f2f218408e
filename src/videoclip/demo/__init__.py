"""The whole story in minutes, on the parts everybody uses: nothing in here is made for show."""
