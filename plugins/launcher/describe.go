package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
)

const (
	// describeBudget is how long a program may take to describe itself.
	describeBudget = 15 * time.Second
	// maxDescription is what it may print.
	maxDescription = 16 << 20
)

// Describe runs a program with --describe=binary and returns the Spec that starts
// it. It is an operator's act: whatever else the program does when it is run, it
// does here. SHA256, Limits and Env are left empty. The error is [ErrSpec].
func Describe(ctx context.Context, path string, args ...string) (Spec, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Spec{}, specError(path, "path", "%w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, describeBudget, errors.New("it took too long to describe itself"))
	defer cancel()
	var out, said limited
	out.most, said.most = maxDescription, maxLine
	cmd := exec.CommandContext(ctx, path, append(args, "--describe=binary")...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = filepath.Dir(path), &out, &said, outputGrace
	cmd.Env = (&resolved{}).environment(hostEnvironment())
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if text := strings.TrimSpace(said.kept.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return Spec{}, specError(filepath.Base(path), "--describe", "%w", err)
	}
	d := new(pluginv1.Description)
	if out.over {
		return Spec{}, specError(filepath.Base(path), "--describe", "it prints more than %d bytes", maxDescription)
	}
	if err := proto.Unmarshal(out.kept.Bytes(), d); err != nil || d.GetName() == "" {
		return Spec{}, specError(filepath.Base(path), "--describe", "what it prints is no description: is it a plugin of Conclave?")
	}
	if d.GetProtocol() != protocol {
		return Spec{}, fmt.Errorf("%w: %d, and this host %d", ErrProtocol, d.GetProtocol(), protocol)
	}
	s := Spec{Name: d.GetName(), Version: d.GetVersion(), Summary: d.GetSummary(), Path: path, Args: args,
		Descriptors: d.GetDescriptors(), Services: d.GetServices(), Config: d.GetConfig(), HostSocket: d.GetHostSocket()}
	_, err = resolve(s)
	return s, err
}

// limited keeps the beginning of what is written to it.
type limited struct {
	kept bytes.Buffer // not embedded: it would read past the limit by itself
	most int
	over bool
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	room := l.most - l.kept.Len()
	if len(b) > room {
		l.over = true
		_, _ = l.kept.Write(b[:max(room, 0)]) // never fails
		return len(b), nil
	}
	return l.kept.Write(b)
}
