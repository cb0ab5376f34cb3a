//go:build unix

package coretest_test

func children() map[string]func() int {
	return map[string]func() int{"echo": echo, "parent": parent, "holder": holder}
}
