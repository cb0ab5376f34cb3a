package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An output is a file that templates are rendered to.
type output struct {
	path string      // as it was given; - is standard output
	mode fs.FileMode // of a file that is new
}

func (o output) stdout() bool { return o.path == "-" }

// target is the file behind a symbolic link, so that the link stays.
func (o output) target() (string, error) {
	path, err := filepath.EvalSymlinks(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return o.path, nil
	}
	return path, err
}

// has reports whether the file has this content already.
func (o output) has(content []byte) (bool, error) {
	if o.stdout() {
		return false, nil
	}
	old, err := os.ReadFile(o.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	return bytes.Equal(old, content), nil
}

// A candidate is new content beside the file that it is to replace.
type candidate struct {
	temp   string
	target string
}

// prepare writes the content to a file beside the target, with the target's owner
// and permissions, or those of a new file, and syncs it.
func (o output) prepare(content []byte) (c candidate, err error) {
	if c.target, err = o.target(); err != nil {
		return c, err
	}
	f, err := os.CreateTemp(filepath.Dir(c.target), "."+filepath.Base(c.target)+".*")
	if err != nil {
		return c, err
	}
	c.temp = f.Name()
	before, err := os.Stat(c.target)
	switch {
	case err == nil && !before.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", c.target)
	case err == nil:
		err = likeBefore(f, before)
	case errors.Is(err, fs.ErrNotExist):
		err = f.Chmod(o.mode)
	}
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		c.drop()
		return c, err
	}
	return c, nil
}

// commit replaces the target: whoever opens it sees the old content or the new.
func (c candidate) commit() error { return os.Rename(c.temp, c.target) }

// drop takes the new content away. What cannot be removed is left, beside a file
// that is as it was.
func (c candidate) drop() { _ = os.Remove(c.temp) }
