package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// A hosting is what a host in a process of its own is told to run.
type hosting struct {
	Endpoints   []string        `json:"endpoints"`
	Spec        launcher.Spec   `json:"spec"`        // without its descriptors
	Descriptors []byte          `json:"descriptors"` // a FileDescriptorSet
	Config      json.RawMessage `json:"config,omitempty"`
	RunDir      string          `json:"runDir"` // what a killed host leaves there the suite removes
}

// Host runs a host with one plugin, in a process that the suite may kill: what it
// runs comes on standard input, and the number of the plugin's process goes to
// standard output. It returns when standard input ends. Config.Host is the program
// that calls it.
func Host(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var what hosting
	if err := json.Unmarshal(line, &what); err != nil {
		return err
	}
	what.Spec.Descriptors = new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(what.Descriptors, what.Spec.Descriptors); err != nil {
		return err
	}
	how := tireless(slog.New(slog.DiscardHandler))
	how.RunDir = what.RunDir
	v := &supervised{launcher: launcher.New(how)}
	if v.plugin, err = v.launcher.Plugin(what.Spec); err != nil {
		return err
	}
	cfg := host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: what.Endpoints}}
	if len(what.Config) > 0 {
		cfg.Recipes = map[string]host.RecipeConfig{what.Spec.Name: {Config: what.Config}}
	}
	h, err := host.New(cfg, host.WithRecipe(v.recipe()))
	if err != nil {
		return err
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	if err = v.awaitReady(ctx); err == nil {
		_, err = fmt.Fprintln(out, v.plugin.Status().PID)
		_, _ = io.Copy(io.Discard, lines) // an error ends it as well
	}
	return errors.Join(err, h.Stop(ctx), v.close(ctx))
}

// hostLoss kills a host, and waits for the end of its plugin.
func (p *plugged) hostLoss(ctx context.Context, s *Suite) error {
	if s.cfg.Host == nil {
		return skip("nobody said how to start a host that can be killed")
	}
	spec := p.spec
	descriptors, err := proto.Marshal(spec.Descriptors)
	if err != nil {
		return err
	}
	spec.Descriptors = nil
	what, err := json.Marshal(hosting{s.etcd.Endpoints(), spec, descriptors, s.cfg.Config, filepath.Join(s.dir, "run")})
	if err != nil {
		return err
	}
	pid, err := s.killHost(ctx, append(what, '\n'))
	if err != nil {
		return err
	}
	if err := awaitEnd(ctx, pid); err != nil {
		_ = signal(pid, kill) // the check leaves nothing behind
		return fmt.Errorf("without its host %w", err)
	}
	return nil
}

// awaitEnd waits for the end of a process that is not a child of this one.
func awaitEnd(ctx context.Context, pid int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for alive(pid) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("its process %d lives on: %w", pid, ctx.Err())
		}
	}
	return nil
}

// killHost starts a host in a process of its own, kills it when its plugin serves,
// and returns the number of the plugin's process.
func (s *Suite) killHost(ctx context.Context, what []byte) (pid int, err error) {
	cmd := exec.CommandContext(ctx, s.cfg.Host.Path, s.cfg.Host.Args...)
	cmd.Env = append(os.Environ(), s.cfg.Host.Env...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = stdin.Write(what)
	line, readErr := bufio.NewReader(out).ReadString('\n')
	err = errors.Join(err, readErr, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	if err != nil {
		return 0, fmt.Errorf("the host that is to be killed: %w: %s", err, oneLine(complaint.String()))
	}
	return strconv.Atoi(strings.TrimSpace(line))
}
