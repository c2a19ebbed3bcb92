"""How large do weights become under AdamW, how fast do they turn, and what has frequency in it?"""
