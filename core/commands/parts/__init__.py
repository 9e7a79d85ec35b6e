"""What sub-commands are made of; a package, as only the modules beside it are sub-commands."""
