"""Recipes: programs that prepare data, train and measure; none of them installs."""
