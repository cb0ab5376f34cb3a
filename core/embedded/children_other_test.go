//go:build !unix

package embedded_test

func children() map[string]func() int { return nil }
