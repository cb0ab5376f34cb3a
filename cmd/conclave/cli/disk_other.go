//go:build !linux && !darwin

package cli

import "errors"

// freeBytes is not known here.
func freeBytes(string) (int64, error) {
	return 0, errors.New("the free space is not known on this system")
}
