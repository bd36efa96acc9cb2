"""File formats and streaming encryption: rules about bytes, without network or paths. The only importer of Crypto."""
