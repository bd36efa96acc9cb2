"""The tests of loader.crypto: against Tink, against bytes made by hand, and against whoever changes a byte."""
