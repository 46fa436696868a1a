"""The live page: runs, their trees, texts and timelines, in a browser. Plain files; nothing is built."""
