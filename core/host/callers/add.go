package callers

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tokenBytes are the random bytes of a token: more than anybody guesses, which is
// why a plain hash of it may stand in a file.
const tokenBytes = 32

// NewToken returns a token, and what the file has of it.
func NewToken() (token, sha string) {
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // which never fails
	token = base64.RawURLEncoding.EncodeToString(b)
	sum := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(sum[:])
}

// Add appends an entry to a file, which it makes if there is none, and leaves the
// rest of it as it stands. After an error the file is as it was.
func Add(file string, e Entry) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = []byte("# Who may call the hosts, and what: conclave auth token --help\ncallers:\n"), nil
	}
	if err != nil {
		return err
	}
	line, err := json.Marshal(e) // which is YAML as well
	if err != nil {
		return err
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		text = append(text, '\n')
	}
	text = fmt.Appendf(text, "  - %s\n", line)
	if _, err := parse(file, text); err != nil {
		return err
	}
	return replace(file, text)
}

// replace exchanges a file in one step for one that only its owner can read.
func replace(file string, text []byte) (err error) {
	next, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-") // a name of nobody else's, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(next.Name()))
		}
	}()
	_, err = next.Write(text)
	if err == nil {
		err = next.Sync()
	}
	err = errors.Join(err, next.Close())
	if err != nil {
		return err
	}
	return os.Rename(next.Name(), file)
}
