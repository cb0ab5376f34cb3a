package catalog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Seal writes a package into a new folder as authors publish it: every file that the
// manifest names for any platform, and the manifest with the SHA-256 of each, signed
// if there is a key. The folder that is read is left as it is.
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
	return m, p.seal(m, to, key)
}

func (p *Package) seal(m *Manifest, to string, key *SecretKey) (err error) {
	if m.Descriptors.SHA256, err = p.copyTo(to, m.Descriptors, 0o640); err != nil {
		return err
	}
	for platform, f := range m.Binaries {
		if f.SHA256, err = p.copyTo(to, f, 0o750); err != nil {
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
func (p *Package) copyTo(to string, f File, mode os.FileMode) (sum string, err error) {
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
	return sum, os.WriteFile(path, b, mode)
}
