/* The WordPiece model of BERT (Schuster and Nakajima 2012; Wu et al. 2016, §4.1): a word is the longest token that it
 * begins with, then the longest token with the continuing prefix ("##") that goes on, and so forth; a word that cannot
 * be cut so to its end, or is too long, is the unknown token as a whole.
 */
#pragma once
#include "runner/tokenizer.h"

extern const struct tokenizer_model_ops wordpiece_model;
