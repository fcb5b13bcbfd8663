"""Extensions of libraries, installed after their import: signing, recording, repairs."""
