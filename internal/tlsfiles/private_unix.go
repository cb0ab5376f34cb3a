//go:build unix

package tlsfiles

import (
	"fmt"
	"os"
)

// others are the permissions of users who are neither the owner nor in its group.
const others = 0o007

// private refuses a key that every user of the machine can read.
func private(key string) error {
	info, err := os.Stat(key)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&others != 0 {
		return fmt.Errorf("%s: every user of this machine can reach this private key (mode %04o); run: chmod 600 %s", key, mode, key)
	}
	return nil
}
