package main

import "io"

const rulesFile = "docs/quorum.md"

func printRules(out io.Writer, file string) error { return nil }
