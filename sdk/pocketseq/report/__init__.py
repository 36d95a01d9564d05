"""Pages for people: the few shapes, numbers and styles that every report of this project is made of; no library needed."""
