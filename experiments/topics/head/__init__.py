"""How large are the updates, and which rates are best, where a network also writes tokens?"""
