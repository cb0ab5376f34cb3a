//go:build unix

package tlsfiles

import (
	"fmt"
	"os"
)

// others are the permissions of users who are neither the owner nor in its group.
const others = 0o007

// Private refuses a file that every user of the machine can reach. Where files
// have no such permissions it knows nothing.
func Private(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&others != 0 {
		return fmt.Errorf("%s: every user of this machine can reach this secret (mode %04o); run: chmod 600 %s", file, mode, file)
	}
	return nil
}
