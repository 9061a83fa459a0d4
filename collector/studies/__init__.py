"""Ready studies, one TOML file each; `collect studies` lists them."""
