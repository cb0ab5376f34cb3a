package launcher

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrRunDir is the error of a folder that cannot hold the sockets of plugins.
var ErrRunDir = errors.New("no folder for the sockets of plugins")

// makeRunDir makes a folder for sockets, empty and private. The path of a socket
// is short on every system, so a long one is replaced by a folder among the
// temporary files which has always the same name.
//
// The folder is this program's until the file is closed.
func makeRunDir(dir string) (string, *os.File, error) {
	made, err := chooseRunDir(dir)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrRunDir, err)
	}
	lock, err := lockDir(made)
	if err == nil {
		err = empty(made)
	}
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrRunDir, err)
	}
	return made, lock, nil
}

func chooseRunDir(dir string) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("", "conclave-")
		if err != nil {
			return "", err
		}
		return made, checkLength(made)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if checkLength(dir) != nil {
		sum := sha256.Sum256([]byte(dir))
		dir = filepath.Join(os.TempDir(), "conclave-"+hex.EncodeToString(sum[:6]))
		if err := checkLength(dir); err != nil {
			return "", err
		}
	}
	return dir, claim(dir)
}

func checkLength(dir string) error {
	if most := maxSocketPath - socketRoom; len(dir) > most {
		return fmt.Errorf("%s: is longer than the %d bytes that a socket's path leaves to it; choose a shorter one", dir, most)
	}
	return nil
}

// claim makes the folder, if there is none. One that is another user's, or that
// others can enter, is refused: a name among the temporary files is anybody's.
func claim(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err == nil || !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info) {
		return fmt.Errorf("%s: is not a private folder of the user who runs the host", dir)
	}
	return nil
}

// empty removes what a killed host has left.
func empty(dir string) error {
	left, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range left {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
