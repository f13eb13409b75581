"""The pictures of the README, and the script that draws them; nothing in the library imports it."""
