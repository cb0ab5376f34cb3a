package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// What is published is for everybody to read, whatever the mask of its author.
const (
	publishedFile    = 0o644
	publishedProgram = 0o755 // and a folder
)

// Seal writes a package into a new folder as authors publish it: every file that the
// manifest names for any platform, and the manifest with the SHA-256 of each, signed
// if there is a key. Everybody may read what is in it, and run what is a program. The
// folder that is read is left as it is.
func Seal(from, to string, key *SecretKey) (m *Manifest, err error) {
	root, err := os.OpenRoot(from)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	p := &Package{root: root}
	if p.Source, err = p.read(ManifestName, maxManifest); err != nil {
		return nil, err
	}
	if m, err = ParseManifest(p.Source); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(from, ManifestName), err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return nil, err
	}
	if err := os.Mkdir(to, 0o750); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(to))
		}
	}()
	if err := p.seal(m, to, key); err != nil {
		return nil, err
	}
	return m, publish(to, m)
}

// publish gives everything in a folder the mode that it is published with.
func publish(dir string, m *Manifest) error {
	programs := map[string]bool{}
	for _, f := range m.Binaries {
		programs[filepath.Join(dir, filepath.FromSlash(f.File))] = true
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() || programs[path]:
			return os.Chmod(path, publishedProgram) //nolint:gosec // it is published
		default:
			return os.Chmod(path, publishedFile) //nolint:gosec // it is published
		}
	})
}

func (p *Package) seal(m *Manifest, to string, key *SecretKey) (err error) {
	if m.Descriptors.SHA256, err = p.copyTo(to, m.Descriptors); err != nil {
		return err
	}
	for platform, f := range m.Binaries {
		if f.SHA256, err = p.copyTo(to, f); err != nil {
			return err
		}
		m.Binaries[platform] = f
	}
	if p.Descriptors, err = p.read(m.Descriptors.File, maxDescriptors); err != nil {
		return err
	}
	p.Manifest = m
	if err := p.complete(); err != nil {
		return err
	}
	source, err := m.Marshal()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(to, ManifestName), source); err != nil {
		return err
	}
	if key == nil {
		return nil
	}
	return writeFile(filepath.Join(to, SignatureName), key.Sign(source, "plugin "+m.Name+" "+m.Version))
}

// copyTo copies one file, and returns its SHA-256, which must be the manifest's if
// that has one.
func (p *Package) copyTo(to string, f File) (sum string, err error) {
	in, err := p.open(f.File)
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	b, err := io.ReadAll(io.LimitReader(in, maxBinary+1))
	if err != nil {
		return "", err
	}
	if int64(len(b)) > maxBinary {
		return "", fmt.Errorf("%w: %s: at most %s", ErrTooLarge, f.File, Size(maxBinary))
	}
	sum = string(SumOf(b))
	if f.SHA256 != "" && f.SHA256 != sum {
		return "", fmt.Errorf("%s %w: it has the SHA-256 %s, and the manifest says %s", f.File, ErrChanged, sum, f.SHA256)
	}
	path := filepath.Join(to, filepath.FromSlash(f.File))
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return "", err
	}
	return sum, os.WriteFile(path, b, 0o600)
}
