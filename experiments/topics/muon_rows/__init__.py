"""How far does Muon move the embedding of each token, and what do rare tokens lose by it?"""
