"""Should a proxy model keep the vocabulary, or the ratio of vocabulary to width?"""
