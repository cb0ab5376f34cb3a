package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Platform is the key of this platform's binary in a manifest.
func Platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// A Package is a plugin as it is handed over, not yet a part of a host: its
// manifest, checked, and the files that the manifest names.
type Package struct {
	// Manifest is what the plugin says of itself.
	Manifest *Manifest
	// Source is the manifest's file, which a signature is over.
	Source []byte
	// Signature is nil if there is none.
	Signature []byte
	// Descriptors is the file with a FileDescriptorSet.
	Descriptors []byte
	// Files is what the descriptors are.
	Files *descriptorpb.FileDescriptorSet
	// Binary is the path of the file for this platform.
	Binary string

	root *os.Root // of the folder that it was read from; nil: it was made from a binary
	file string   // the binary in root
}

// ReadFolder reads a plugin's folder for a platform. Nothing is executed. Errors are
// [ErrManifest], [ErrUnsupported], [ErrMissing] and [ErrChanged], and name the file.
// The caller closes the package.
func ReadFolder(dir, platform string) (_ *Package, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	p := &Package{root: root}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Source, err = p.read(ManifestName, maxManifest); err != nil {
		return nil, err
	}
	if p.Manifest, err = ParseManifest(p.Source); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, ManifestName), err)
	}
	p.Signature, err = p.read(SignatureName, maxSignature)
	if err != nil && !errors.Is(err, ErrMissing) {
		return nil, err
	}
	if p.Descriptors, err = p.read(p.Manifest.Descriptors.File, maxDescriptors); err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	f, err := p.Manifest.Binary(platform)
	if err != nil {
		return nil, err
	}
	p.file, p.Binary = filepath.FromSlash(f.File), filepath.Join(dir, filepath.FromSlash(f.File))
	return p, nil
}

// complete reads the descriptors and checks what the manifest says of them and of
// the protocol.
func (p *Package) complete() (err error) {
	m := p.Manifest
	if m.Protocol != Protocol {
		return fmt.Errorf("%w: %s %s speaks version %d of the plugin protocol, and this conclave speaks %d: %s", ErrUnsupported,
			m.Name, m.Version, m.Protocol, Protocol, whoIsOld(m.Protocol))
	}
	if wanted := m.Descriptors.SHA256; wanted != "" && string(SumOf(p.Descriptors)) != wanted {
		return fmt.Errorf("%s %w: it has the SHA-256 %s, and the manifest says %s", m.Descriptors.File, ErrChanged, SumOf(p.Descriptors), wanted)
	}
	p.Files, err = m.readDescriptors(p.Descriptors)
	return err
}

func whoIsOld(protocol int) string {
	if protocol > Protocol {
		return "use a newer conclave, or an older version of the plugin"
	}
	return "use a version of the plugin that was built with a newer SDK"
}

// readDescriptors reads a FileDescriptorSet, and finds in it what the manifest names.
func (m *Manifest) readDescriptors(b []byte) (*descriptorpb.FileDescriptorSet, error) {
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(b, set); err != nil {
		return nil, fmt.Errorf("%w: descriptors: %s is not a FileDescriptorSet", ErrManifest, m.Descriptors.File)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("%w: descriptors: %s is not complete; build it with all imports (buf build, or protoc --include_imports): %w",
			ErrManifest, m.Descriptors.File, err)
	}
	for i, name := range m.Services {
		d, err := files.FindDescriptorByName(protoreflect.FullName(name))
		if _, ok := d.(protoreflect.ServiceDescriptor); err != nil || !ok {
			return nil, fmt.Errorf("%w: services[%d]: %s has no service %s", ErrManifest, i, m.Descriptors.File, name)
		}
	}
	if m.Config == "" {
		return set, nil
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(m.Config))
	if _, ok := d.(protoreflect.MessageDescriptor); err != nil || !ok {
		return nil, fmt.Errorf("%w: config: %s has no message %s", ErrManifest, m.Descriptors.File, m.Config)
	}
	return set, nil
}

// read reads one of the folder's files, which is never outside it, also not through
// a link.
func (p *Package) read(name string, limit int64) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s: at most %s", ErrTooLarge, f.Name(), Size(limit))
	}
	return b, nil
}

func (p *Package) open(name string) (*os.File, error) {
	path := filepath.Join(p.root.Name(), name)
	// Before it is opened: the opening of a pipe waits for a writer.
	info, err := p.root.Stat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %w", path, ErrMissing)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", p.root.Name(), err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file", ErrManifest, path)
	}
	return p.root.Open(filepath.FromSlash(name))
}

// OpenBinary opens the binary of this platform.
func (p *Package) OpenBinary() (*os.File, error) {
	if p.root == nil {
		return os.Open(p.Binary)
	}
	return p.open(p.file)
}

// Close lets go of the folder.
func (p *Package) Close() error {
	if p.root == nil {
		return nil
	}
	return p.root.Close()
}

// A Pieces puts a package together from the parts in which it is sent.
type Pieces struct {
	dir  string
	open *os.File // of the binary
	p    Package
	size int64
}

// Pieces returns a package without files, which are kept in the catalog's directory
// until it is closed.
func (c *Catalog) Pieces() (_ *Pieces, err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.dir, incoming)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "binary"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Pieces{dir: dir, open: f, p: Package{Binary: f.Name()}}, nil
}

// Manifest takes a part of the manifest. The error is [ErrTooLarge] for more than a
// plugin may have.
func (p *Pieces) Manifest(b []byte) error { return grow("manifest", &p.p.Source, b, maxManifest) }

// Signature takes a part of the signature, as Manifest does.
func (p *Pieces) Signature(b []byte) error {
	return grow("signature", &p.p.Signature, b, maxSignature)
}

// Descriptors takes a part of the descriptors, as Manifest does.
func (p *Pieces) Descriptors(b []byte) error {
	return grow("descriptors", &p.p.Descriptors, b, maxDescriptors)
}

// Binary takes a part of the binary, as Manifest does.
func (p *Pieces) Binary(b []byte) error {
	if p.size += int64(len(b)); p.size > maxBinary {
		return fmt.Errorf("%w: binary: at most %s", ErrTooLarge, Size(maxBinary))
	}
	_, err := p.open.Write(b)
	return err
}

func grow(name string, to *[]byte, part []byte, limit int) error {
	if *to = append(*to, part...); len(*to) > limit {
		return fmt.Errorf("%w: %s: at most %s", ErrTooLarge, name, Size(limit))
	}
	return nil
}

// Package returns the package, when it is complete. Errors are those of
// [ReadFolder].
func (p *Pieces) Package() (*Package, error) {
	var err error
	if p.p.Manifest, err = ParseManifest(p.p.Source); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if _, err := p.p.Manifest.Binary(Platform()); err != nil {
		return nil, err
	}
	return &p.p, p.p.complete()
}

// Close removes what is left of the package.
func (p *Pieces) Close() error { return errors.Join(p.open.Close(), os.RemoveAll(p.dir)) }

// sum returns the SHA-256 that the manifest has for the binary; empty: none.
func (p *Package) sum() Sum {
	f, err := p.Manifest.Binary(Platform())
	if err != nil {
		return ""
	}
	return Sum(f.SHA256)
}
