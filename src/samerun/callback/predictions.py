"""stub"""
class Samples:
    def __init__(self, learn, valid_dl, n_preds, seed): pass
    def table(self, learn): return {}
    def charts(self, learn): return {}
