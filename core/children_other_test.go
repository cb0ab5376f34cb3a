//go:build !unix

package core_test

func children() map[string]func() int { return nil }
