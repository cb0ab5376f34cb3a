//go:build !unix

package session_test

func children() map[string]func() int { return nil }
