"""Freezing the edge for one architecture, on any: `python -m freezing --arch arm64`, from `make freeze`. Not part of the product.

What is fetched comes from this machine's own apt and pip: a root of the distribution's packages, unpacked and never started as a system,
and wheels. What is compiled is cross-compiled against that root. Only PyInstaller runs inside it, emulated where need be. Roots, wheels and
crun are kept in `.build/freeze`, named by what they are made from.
"""
