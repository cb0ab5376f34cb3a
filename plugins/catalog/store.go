package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A Sum is a SHA-256 in hexadecimal.
type Sum string

// SumOf returns the sum of some bytes.
func SumOf(b []byte) Sum {
	sum := sha256.Sum256(b)
	return Sum(hex.EncodeToString(sum[:]))
}

// Bytes returns the sum itself; nil if it is not one.
func (s Sum) Bytes() []byte {
	b, err := hex.DecodeString(string(s))
	if err != nil || len(b) != sha256.Size {
		return nil
	}
	return b
}

// A store holds binaries under the names of their sums.
type store struct{ dir string }

func (s store) path(sum Sum) string { return filepath.Join(s.dir, string(sum)) }

// put copies a file into the store, and returns its sum. Wanted, if it is not
// empty, is what the sum has to be; otherwise the error is ErrChanged.
func (s store) put(ctx context.Context, from io.Reader, wanted Sum) (_ Sum, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", err
	}
	sum, temporary, err := s.write(ctx, from)
	if temporary != "" {
		defer func() { err = errors.Join(err, removed(temporary)) }()
	}
	if err != nil {
		return "", err
	}
	if wanted != "" && sum != wanted {
		return "", fmt.Errorf("the binary %w: it has the SHA-256 %s, and the manifest says %s", ErrChanged, sum, wanted)
	}
	if s.check(ctx, sum) == nil {
		return sum, nil
	}
	if err := os.Rename(temporary, s.path(sum)); err != nil {
		return "", err
	}
	return sum, syncDir(s.dir)
}

// write copies to a temporary file in the store.
func (s store) write(ctx context.Context, from io.Reader) (sum Sum, path string, err error) {
	// A process that is forked while the file is open for writing has it open until it
	// becomes another program, and until then the file cannot be executed (golang/go#22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp(s.dir, incoming)
	if err != nil {
		return "", "", err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), reader{ctx, io.LimitReader(from, maxBinary+1)})
	switch {
	case err != nil:
		return "", f.Name(), err
	case n > maxBinary:
		return "", f.Name(), fmt.Errorf("%w: a binary has at most %s", ErrTooLarge, Size(maxBinary))
	case n == 0:
		return "", f.Name(), fmt.Errorf("%w: the binary is empty", ErrManifest)
	}
	if err := f.Chmod(0o500); err != nil {
		return "", f.Name(), err
	}
	return Sum(hex.EncodeToString(hash.Sum(nil))), f.Name(), f.Sync()
}

// check returns nil if the store has exactly the file of this sum: a file of its
// own, which nobody but its owner can write.
func (s store) check(ctx context.Context, sum Sum) error {
	path := s.path(sum)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %w", path, ErrMissing)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s %w: it is %s instead of a file", path, ErrChanged, kind(info.Mode()))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s %w: it can be written by others, by its mode %04o instead of 0500", path, ErrChanged, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, opened) {
		return fmt.Errorf("%s %w: it was exchanged while it was looked at", path, ErrChanged)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, reader{ctx, f}); err != nil {
		return err
	}
	if has := Sum(hex.EncodeToString(hash.Sum(nil))); has != sum {
		return fmt.Errorf("%s %w: it has the SHA-256 %s", path, ErrChanged, has)
	}
	return nil
}

// keep removes every file of the store but those of the sums.
func (s store) keep(sums map[Sum]bool) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !sums[Sum(e.Name())] && !e.IsDir() && !strings.HasPrefix(e.Name(), incoming) {
			err = errors.Join(err, removed(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m.IsDir():
		return "a directory"
	}
	return "something else"
}

// removed removes a file, if it is there.
func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes what happened in a directory outlive a machine that crashes.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// A reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
