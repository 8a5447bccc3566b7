"""How the small default model is made and measured. It imports the product; the product never imports it."""
