"""arqestra in applications of known frameworks: each file is for one, and needs the extra of its name."""
