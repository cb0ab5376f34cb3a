package catalog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/plugins/launcher"
)

// Describe runs a binary once, to ask it what plugin it is, and returns a package
// of it with a manifest for this platform. Whoever calls it trusts the binary as
// much as one that he runs himself. The error is [launcher.ErrSpec] or
// [launcher.ErrProtocol] if it does not answer as a plugin does, and [ErrManifest] if
// it is none that could be added.
func Describe(ctx context.Context, binary string) (*Package, error) {
	s, err := launcher.Describe(ctx, binary)
	if err != nil {
		return nil, err
	}
	m, descriptors, err := manifestOf(s, Platform())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %s describes itself so: %w", ErrManifest, binary, err)
	}
	p := &Package{Manifest: m, Descriptors: descriptors, Binary: s.Path}
	if p.Source, err = m.Marshal(); err != nil {
		return nil, err
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p, nil
}

// manifestOf makes the manifest of what a binary says of itself.
func manifestOf(s launcher.Spec, platform string) (*Manifest, []byte, error) {
	// Deterministic: the same binary gives the same manifest, and so the same pin.
	descriptors, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.Descriptors)
	if err != nil {
		return nil, nil, err
	}
	return &Manifest{
		Name: s.Name, Version: s.Version, Summary: s.Summary, Protocol: Protocol,
		Services: s.Services, Config: s.Config, HostSocket: s.HostSocket,
		Descriptors: File{File: "descriptors.binpb", SHA256: string(SumOf(descriptors))},
		Binaries:    map[string]File{platform: {File: filepath.Base(s.Path)}},
	}, descriptors, nil
}

// Read reads a plugin for this platform from a folder with a manifest, or from a
// binary, which is run: see [ReadFolder] and [Describe].
func Read(ctx context.Context, path string) (*Package, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return ReadFolder(path, Platform())
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is neither a folder nor a file", ErrManifest, path)
	}
	return Describe(ctx, path)
}
