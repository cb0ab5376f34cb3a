package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
)

const (
	describing   = 15 * time.Second // that a plugin may take to describe itself
	describeWait = time.Second      // for what it left behind with its output open
	maxComplaint = 4 << 10
)

// Describe runs a binary once, to ask it what plugin it is, and returns a package
// of it with a manifest for this platform. Whoever calls it trusts the binary as
// much as one that he runs himself. The error is [ErrManifest] if it does not answer
// as a plugin does, within 15 s.
func Describe(ctx context.Context, binary string) (*Package, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	out, err := ask(ctx, binary)
	if err != nil {
		return nil, fmt.Errorf("%s --describe: %w", binary, err)
	}
	d := new(pluginv1.Description)
	if err := proto.Unmarshal(out, d); err != nil || d.GetName() == "" {
		return nil, fmt.Errorf("%w: %s --describe: what it printed is not the description of a plugin", ErrManifest, binary)
	}
	m, descriptors, err := manifestOf(d, Platform(), filepath.Base(binary))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", binary, err)
	}
	p := &Package{Manifest: m, Descriptors: descriptors, Binary: binary}
	if p.Source, err = m.Marshal(); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %s describes itself so: %w", ErrManifest, binary, err)
	}
	return p, p.complete()
}

// manifestOf makes the manifest of what a binary says of itself.
func manifestOf(d *pluginv1.Description, platform, file string) (*Manifest, []byte, error) {
	// Deterministic: the same binary gives the same manifest, and so the same pin.
	descriptors, err := proto.MarshalOptions{Deterministic: true}.Marshal(d.GetDescriptors())
	if err != nil {
		return nil, nil, err
	}
	return &Manifest{
		Name: d.GetName(), Version: d.GetVersion(), Summary: d.GetSummary(), Protocol: int(d.GetProtocol()), Language: d.GetLanguage(),
		Services: d.GetServices(), Config: d.GetConfig(), HostSocket: d.GetHostSocket(),
		Descriptors: File{File: "descriptors.binpb", SHA256: string(SumOf(descriptors))},
		Binaries:    map[string]File{platform: {File: file}},
	}, descriptors, nil
}

// ask runs the binary, with nothing of this process's environment but where programs
// and the user's files are.
func ask(ctx context.Context, binary string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, describing)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "--describe=binary")
	cmd.WaitDelay = describeWait
	for _, name := range []string{"PATH", "HOME", "LANG", "TMPDIR", "SystemRoot"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	said, complained := &bounded{limit: maxDescriptors + maxManifest}, &bounded{limit: maxComplaint}
	cmd.Stdout, cmd.Stderr = said, complained
	err := cmd.Run()
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: it did not answer within %s", ErrManifest, describing)
	case err != nil:
		if text := oneLine(complained.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, fmt.Errorf("%w: %w; is it a plugin?", ErrManifest, err)
	case said.over:
		return nil, fmt.Errorf("%w: it printed more than %s", ErrTooLarge, Size(said.limit))
	}
	return said.kept.Bytes(), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	kept  bytes.Buffer // not embedded: io.Copy would find its ReadFrom
	limit int
	over  bool
}

// Write never fails: a program whose reader is gone would say so, not what it meant.
func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-b.kept.Len())
	b.over = b.over || keep < len(p)
	_, _ = b.kept.Write(p[:keep])
	return len(p), nil
}

// String returns what was kept, without what a terminal would take for commands.
func (b *bounded) String() string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' {
			return -1
		}
		return r
	}, b.kept.String())
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
