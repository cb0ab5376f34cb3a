package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Prepare checks a package as a host would and copies its binary into the store, but
// adds it to nothing: Unpinned is true. Errors are those of [ReadFolder],
// [ErrSignature] and [ErrTooLarge].
func (c *Catalog) Prepare(ctx context.Context, p *Package) (*Plugin, error) {
	key, warnings, err := c.signed(p)
	if err != nil {
		return nil, err
	}
	sum, err := c.put(ctx, p)
	if err != nil {
		return nil, err
	}
	m := p.Manifest
	pin := Pin{Name: m.Name, Version: m.Version, SHA256: sum, Manifest: SumOf(p.Source), Descriptors: SumOf(p.Descriptors), Key: key}
	return &Plugin{Manifest: m, Pin: pin, Path: c.store.path(sum), Descriptors: p.Files, Warnings: warnings, Unpinned: true}, nil
}

// put copies the package's binary into the store, where it stays until it is pinned
// or discarded.
func (c *Catalog) put(ctx context.Context, p *Package) (Sum, error) {
	f, err := p.OpenBinary()
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	c.mu.Lock()
	defer c.mu.Unlock()
	sum, err := c.store.put(ctx, f, p.sum())
	if err == nil {
		c.held[sum]++
	}
	return sum, err
}

// Pinned returns what the lock has of a plugin; ok is false if that is nothing.
func (c *Catalog) Pinned(name string) (pin Pin, ok bool, err error) {
	pins, err := readLock(c.dir)
	if i := indexOf(pins, name); i >= 0 {
		return pins[i], true, err
	}
	return Pin{}, false, err
}

// Pin adds a prepared package for good, and is its Discard: it writes the plugin's files, then the lock
// in one step, and removes the version before. After an error the lock is as it was,
// unless the error is of what had to be removed, which is harmless then.
func (c *Catalog) Pin(p *Package, prepared *Plugin) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pins, err := readLock(c.dir)
	if err != nil {
		return err
	}
	pin := prepared.Pin
	if err := c.write(p, pin); err != nil {
		return err
	}
	if i := indexOf(pins, pin.Name); i >= 0 {
		pins[i] = pin
	} else {
		pins = append(pins, pin)
	}
	if err := writeLock(c.dir, pins); err != nil {
		return err
	}
	prepared.Unpinned = false
	c.release(pin.SHA256)
	return c.clean(pins, pin.Name)
}

// write puts the files of a version where they belong, the folder in one step.
func (c *Catalog) write(p *Package, pin Pin) (err error) {
	parent := filepath.Join(c.dir, pin.Name)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(parent, incoming)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	files := map[string][]byte{ManifestName: p.Source, filepath.FromSlash(p.Manifest.Descriptors.File): p.Descriptors}
	if p.Signature != nil {
		files[SignatureName] = p.Signature
	}
	for name, content := range files {
		path := filepath.Join(fresh, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := writeFile(path, content); err != nil {
			return err
		}
	}
	// A folder of that version that the lock does not name: of an addition that was cut short.
	if err := os.RemoveAll(c.folder(pin.Name, pin.Version)); err != nil {
		return err
	}
	if err := os.Rename(fresh, c.folder(pin.Name, pin.Version)); err != nil {
		return err
	}
	return syncDir(parent)
}

// Remove takes a plugin out of the lock and deletes its files, also of one that was
// never added. The error is [ErrNotFound] if there is nothing of it; a folder of that
// name that holds no plugin stays.
func (c *Catalog) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pins, err := readLock(c.dir)
	if err != nil {
		return err
	}
	i := indexOf(pins, name)
	if i < 0 && !isPlugin(filepath.Join(c.dir, name)) {
		return fmt.Errorf("plugin %q: %w", name, ErrNotFound)
	}
	if i >= 0 {
		pins = slices.Delete(pins, i, i+1)
		if err := writeLock(c.dir, pins); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(filepath.Join(c.dir, name)), c.keepStored(pins))
}

// isPlugin says that a folder which nobody added holds a plugin, or nothing: other
// folders beside the plugins are not this package's to remove.
func isPlugin(dir string) bool {
	for _, pattern := range []string{ManifestName, filepath.Join("*", ManifestName)} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// Discard removes from the store what Prepare left there, unless something else needs
// it. A process that runs it is not touched.
func (c *Catalog) Discard(prepared *Plugin) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	pins, err := readLock(c.dir)
	if err != nil {
		return err
	}
	c.release(prepared.Pin.SHA256)
	return c.keepStored(pins)
}

func (c *Catalog) release(sum Sum) {
	if c.held[sum]--; c.held[sum] <= 0 {
		delete(c.held, sum)
	}
}

// Sweep removes what earlier hosts left behind: additions that were cut short, and
// binaries of plugins that were not pinned. Nothing is being added meanwhile.
func (c *Catalog) Sweep() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, pattern := range []string{filepath.Join(c.dir, incoming+"*"), filepath.Join(c.dir, "*", incoming+"*"), filepath.Join(c.store.dir, incoming+"*")} {
		left, bad := filepath.Glob(pattern)
		err = errors.Join(err, bad)
		for _, path := range left {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	pins, unread := readLock(c.dir)
	if unread != nil {
		return err // nobody knows what of the store is needed
	}
	return errors.Join(err, c.keepStored(pins))
}

// clean removes what the lock does not name of one plugin, and of the store.
func (c *Catalog) clean(pins []Pin, name string) error {
	versions, err := os.ReadDir(filepath.Join(c.dir, name))
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.Name() != pins[indexOf(pins, name)].Version {
			err = errors.Join(err, os.RemoveAll(c.folder(name, v.Name())))
		}
	}
	return errors.Join(err, c.keepStored(pins))
}

func (c *Catalog) keepStored(pins []Pin) error {
	keep := map[Sum]bool{}
	for sum := range c.held {
		keep[sum] = true
	}
	for _, p := range pins {
		keep[p.SHA256] = true
	}
	return c.store.keep(keep)
}
