package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// LockName is the file in the plugin directory that says what was added.
const LockName = "plugins.lock"

// A Pin is a line of plugins.lock: exactly what was added.
type Pin struct {
	// Name is the plugin's.
	Name string `json:"name"`
	// Version is the manifest's.
	Version string `json:"version"`
	// SHA256 is the binary's.
	SHA256 Sum `json:"sha256"`
	// Manifest is the SHA-256 of plugin.yaml.
	Manifest Sum `json:"manifest"`
	// Descriptors is the SHA-256 of the FileDescriptorSet.
	Descriptors Sum `json:"descriptors"`
	// Key is the id of the trusted key that signed the manifest when it was added.
	// Empty: none had.
	Key string `json:"key,omitempty"`
}

// lockFile is the content of plugins.lock.
type lockFile struct {
	Version int   `json:"version"`
	Plugins []Pin `json:"plugins"`
}

const (
	lockVersion = 1
	lockHeader  = "# The plugins of this host, and exactly what was added: written by conclave plugin.\n"
)

// readLock reads a lock file; one that is not there names nothing.
func readLock(dir string) ([]Pin, error) {
	path := filepath.Join(dir, LockName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l lockFile
	if err := decode(b, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l.Version != lockVersion {
		return nil, fmt.Errorf("%s: version: %d, and this conclave reads %d", path, l.Version, lockVersion)
	}
	for i, p := range l.Plugins {
		if err := p.check(l.Plugins[:i]); err != nil {
			return nil, fmt.Errorf("%s: plugins[%d].%w", path, i, err)
		}
	}
	return l.Plugins, nil
}

func (p Pin) check(before []Pin) error {
	if err := checkName(p.Name); err != nil {
		return err
	}
	if !versionPattern.MatchString(p.Version) {
		return fmt.Errorf("version: %q is not a semantic version", p.Version)
	}
	for _, s := range []struct {
		field string
		sum   Sum
	}{{"sha256", p.SHA256}, {"manifest", p.Manifest}, {"descriptors", p.Descriptors}} {
		if s.sum.Bytes() == nil {
			return fmt.Errorf("%s: %q: 64 hexadecimal digits", s.field, s.sum)
		}
	}
	if slices.ContainsFunc(before, func(o Pin) bool { return o.Name == p.Name }) {
		return fmt.Errorf("name: %s is given twice", p.Name)
	}
	return nil
}

// writeLock replaces the lock file in one step.
func writeLock(dir string, pins []Pin) error {
	pins = slices.SortedFunc(slices.Values(pins), func(a, b Pin) int { return strings.Compare(a.Name, b.Name) })
	b, err := yaml.Marshal(lockFile{lockVersion, pins})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, LockName), append([]byte(lockHeader), b...))
}

// writeFile replaces a file in one step.
func writeFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removed(f.Name())) }()
	_, err = bytes.NewReader(content).WriteTo(f)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
