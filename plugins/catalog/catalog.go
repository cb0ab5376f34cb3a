package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	storeName = "store"
	incoming  = ".incoming-" // the beginning of names of what is not complete
)

// A Catalog is the plugins of one host. Its methods may be called from any
// goroutine. The data directory belongs to one host at a time, which its lock
// ensures.
type Catalog struct {
	dir    string
	store  store
	policy string
	keys   []PublicKey

	mu   sync.Mutex  // of what is written
	held map[Sum]int // in the store for what is prepared and not pinned
}

// Open returns the catalog of a host, in the directory for its data. It reads the
// trusted keys and creates nothing. The error is [ErrConfig].
func Open(cfg Config, dataDir string) (*Catalog, error) {
	if err := cfg.checkDir(dataDir); err != nil {
		return nil, err
	}
	keys, err := cfg.keys()
	if err != nil {
		return nil, err
	}
	return &Catalog{dir: cfg.dir(dataDir), store: store{filepath.Join(dataDir, storeName)}, policy: cfg.policy(), keys: keys, held: map[Sum]int{}}, nil
}

// A Plugin is a plugin whose files were checked: what may be run.
type Plugin struct {
	// Manifest is what it says of itself.
	Manifest *Manifest
	// Pin is what was recorded, or what would be if it were added.
	Pin Pin
	// Path is the binary in the content store.
	Path string
	// Descriptors are the manifest's.
	Descriptors *descriptorpb.FileDescriptorSet
	// Warnings are what the operator should know although it may be run.
	Warnings []string
	// Unpinned says that plugins.lock does not name it.
	Unpinned bool
}

// An Entry is a plugin of the host, or what stands in its way.
type Entry struct {
	// Name is the plugin's, or that of the folder that stands for one.
	Name string
	// Pin is what plugins.lock has. Its Version is empty if it has nothing.
	Pin Pin
	// Plugin is nil if Err is not.
	Plugin *Plugin
	// Err is one of the package's errors.
	Err error
}

// Load checks every plugin that the lock names, side by side, and finds those in the
// directory that it does not name. They are in the order of their names. The error
// is of the lock itself, and of every plugin in the directory: none may be run then.
func (c *Catalog) Load(ctx context.Context) ([]Entry, error) {
	c.mu.Lock()
	pins, err := readLock(c.dir)
	c.mu.Unlock()
	if err != nil {
		return c.lost(err), err
	}
	entries := make([]Entry, len(pins))
	var all sync.WaitGroup
	for i, pin := range pins {
		all.Go(func() {
			entries[i] = Entry{Name: pin.Name, Pin: pin}
			entries[i].Plugin, entries[i].Err = c.check(ctx, pin)
		})
	}
	all.Wait()
	entries = slices.Concat(entries, c.strangers(pins))
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// lost returns all that lies in the directory, of which nobody knows what was added.
func (c *Catalog) lost(err error) []Entry {
	all := c.strangers(nil)
	for i := range all {
		all[i].Err = err
	}
	return all
}

// NotAdded returns what lies in the directory and the lock does not name: each has
// the error [ErrNotAdded].
func (c *Catalog) NotAdded() []Entry {
	pins, err := readLock(c.dir)
	if err != nil {
		return nil
	}
	return c.strangers(pins)
}

// Check checks one plugin. The error is [ErrNotFound], or of the lock.
func (c *Catalog) Check(ctx context.Context, name string) (Entry, error) {
	pins, err := readLock(c.dir)
	if err != nil {
		return Entry{}, err
	}
	if i := indexOf(pins, name); i >= 0 {
		p, err := c.check(ctx, pins[i])
		return Entry{name, pins[i], p, err}, nil
	}
	for _, e := range c.strangers(pins) {
		if e.Name == name {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("plugin %q: %w", name, ErrNotFound)
}

func indexOf(pins []Pin, name string) int {
	return slices.IndexFunc(pins, func(p Pin) bool { return p.Name == name })
}

// strangers are the folders that the lock does not name.
func (c *Catalog) strangers(pins []Pin) []Entry {
	folders, err := os.ReadDir(c.dir)
	if err != nil {
		return nil // there is none, or Load has told more
	}
	var found []Entry
	for _, f := range folders {
		name := f.Name()
		if strings.HasPrefix(name, ".") || name == LockName || indexOf(pins, name) >= 0 {
			continue
		}
		if f.IsDir() && checkName(name) == nil {
			found = append(found, Entry{Name: name, Err: fmt.Errorf("%s %w: %s does not name it", filepath.Join(c.dir, name), ErrNotAdded, LockName)})
		}
	}
	return found
}

// folder is where the files of a version are, but for its binary.
func (c *Catalog) folder(name, version string) string { return filepath.Join(c.dir, name, version) }

// check returns the plugin that was pinned, if all of it is still the same.
func (c *Catalog) check(ctx context.Context, pin Pin) (*Plugin, error) {
	dir := c.folder(pin.Name, pin.Version)
	p, err := ReadFolder(dir, Platform())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s %w", dir, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }()
	switch {
	case SumOf(p.Source) != pin.Manifest:
		return nil, fmt.Errorf("%s %w: it has the SHA-256 %s", filepath.Join(dir, ManifestName), ErrChanged, SumOf(p.Source))
	case SumOf(p.Descriptors) != pin.Descriptors:
		return nil, fmt.Errorf("%s %w: it has the SHA-256 %s", filepath.Join(dir, p.Manifest.Descriptors.File), ErrChanged, SumOf(p.Descriptors))
	case p.Manifest.Name != pin.Name || p.Manifest.Version != pin.Version:
		return nil, fmt.Errorf("%s %w: it describes %s %s", dir, ErrChanged, p.Manifest.Name, p.Manifest.Version)
	case p.sum() != "" && p.sum() != pin.SHA256: // what a signature covers is the manifest's sum
		return nil, fmt.Errorf("%s %w: it names the binary %s, and the manifest %s", filepath.Join(c.dir, LockName), ErrChanged, pin.SHA256, p.sum())
	}
	key, warnings, err := c.signed(p)
	if err != nil {
		return nil, err
	}
	if err := c.stored(ctx, p, pin.SHA256); err != nil {
		return nil, err
	}
	pin.Key = key
	return &Plugin{Manifest: p.Manifest, Pin: pin, Path: c.store.path(pin.SHA256), Descriptors: p.Files, Warnings: warnings}, nil
}

// stored checks the binary in the store. One that was laid into the plugin's folder
// by hand, with a lock file from elsewhere, is taken from there first.
func (c *Catalog) stored(ctx context.Context, p *Package, sum Sum) error {
	err := c.store.check(ctx, sum)
	if !errors.Is(err, ErrMissing) {
		return err
	}
	f, open := p.OpenBinary()
	if open != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	has, err := c.store.put(ctx, f, sum)
	if errors.Is(err, ErrChanged) {
		return fmt.Errorf("%s %w, by its SHA-256", f.Name(), ErrChanged)
	}
	if err == nil && has != sum {
		err = ErrChanged
	}
	return err
}

// signed applies the policy, and returns the key that signed the manifest.
func (c *Catalog) signed(p *Package) (key string, warnings []string, err error) {
	if c.policy == PolicyOff {
		return "", nil, nil
	}
	if p.Signature == nil {
		err = fmt.Errorf("%w: %s %s has none: there is no %s", ErrSignature, p.Manifest.Name, p.Manifest.Version, SignatureName)
	} else {
		var k PublicKey
		if k, err = verify(p.Source, p.Signature, c.keys); err == nil {
			key, err = k.ID(), p.Manifest.covers()
		}
	}
	if err != nil && c.policy == PolicyWarn {
		return "", []string{err.Error()}, nil
	}
	return key, nil, err
}

// covers returns an error if the manifest, which a signature is over, does not say
// what the other files are.
func (m *Manifest) covers() error {
	if m.Descriptors.SHA256 == "" {
		return fmt.Errorf("%w: it does not cover %s: descriptors.sha256 is missing in the manifest", ErrSignature, m.Descriptors.File)
	}
	f, err := m.Binary(Platform())
	if err == nil && f.SHA256 == "" {
		err = fmt.Errorf("%w: it does not cover %s: binaries.*.sha256 is missing in the manifest", ErrSignature, f.File)
	}
	return err
}
