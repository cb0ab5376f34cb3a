package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// pieceBytes is how much of a file one message carries.
const pieceBytes = 256 << 10

func (a *app) pluginAddCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "add PATH",
		Short: "Add a plugin to a host, and start it",
		Long: `add sends a plugin to a host, which checks it, starts it, and from then on runs exactly
these bytes. PATH is a folder with a plugin.yaml, of which nothing is run to learn what
it is; or a plugin's binary, which is run here once, with --describe, to ask it: add
only what you would run yourself.`,
		Example: `  conclave plugin add ./ratelimit
  conclave plugin add ./ratelimit/ratelimit          # a binary alone
  conclave plugin add ./ratelimit --data-dir /var/lib/conclave`,
		Args: exactly(1, "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPackage(cmd.Context(), args[0], func(p *catalog.Package) error {
				return a.withPlugins(cmd.Context(), "plugin add", *dataDir, 0, func(ctx context.Context, h pluginHost) error {
					stream, err := h.Add(ctx)
					if err != nil {
						return err
					}
					if err := sendPackage(p, func(piece *pluginv1.Piece) error { return stream.Send(&pluginv1.AddRequest{Piece: piece}) }); err != nil {
						return err
					}
					resp, err := stream.CloseAndRecv()
					if err != nil {
						return err
					}
					return a.printPlugin(h, resp.GetPlugin(), resp.GetWarnings())
				})
			})
		},
	}
}

func (a *app) pluginUpgradeCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade NAME PATH",
		Short: "Exchange a plugin for another version while it serves",
		Long: `upgrade starts the new version beside the old one, sends new calls to it, lets the
calls of the old one end, and stops that. When anything fails the old one goes on.
PATH is a folder or a binary, as of conclave plugin add.`,
		Example: "  conclave plugin upgrade ratelimit ./ratelimit-1.3.0",
		Args:    exactly(2, "NAME PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPackage(cmd.Context(), args[1], func(p *catalog.Package) error {
				return a.withPlugins(cmd.Context(), "plugin upgrade", *dataDir, 0, func(ctx context.Context, h pluginHost) error {
					stream, err := h.Upgrade(ctx)
					if err != nil {
						return err
					}
					send := func(piece *pluginv1.Piece) error {
						return stream.Send(&pluginv1.UpgradeRequest{Name: args[0], Piece: piece})
					}
					if err := sendPackage(p, send); err != nil {
						return err
					}
					resp, err := stream.CloseAndRecv()
					if err != nil {
						return err
					}
					before, now := clean(resp.GetBefore()), clean(resp.GetPlugin().GetVersion())
					if before == now {
						a.note("put the files of " + clean(args[0]) + " " + now + " back")
					} else {
						a.note("upgraded " + clean(args[0]) + " from " + before + " to " + now)
					}
					return a.printPlugin(h, resp.GetPlugin(), resp.GetWarnings())
				})
			})
		},
	}
}

// withPackage reads a plugin, and runs work with it.
func (a *app) withPackage(ctx context.Context, path string, work func(p *catalog.Package) error) error {
	p, err := a.readPackage(ctx, path)
	if err != nil {
		return err
	}
	return errors.Join(work(p), p.Close())
}

func (a *app) readPackage(ctx context.Context, path string) (*catalog.Package, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		a.note("asking " + path + " what it is: it is run with --describe")
	}
	p, err := catalog.Read(ctx, path)
	if err != nil {
		return nil, packageError(path, err)
	}
	return p, nil
}

// packageError is an error of a plugin that lies here.
func packageError(path string, err error) *Error {
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, catalog.ErrManifest) {
		return usage("invalid_path", "a folder with a plugin.yaml, or a plugin's binary", "there is nothing at %s", path)
	}
	e := usage("invalid_package", "see docs/plugin-authors.md", "%s", oneLine(err))
	e.cause = err
	switch {
	case errors.Is(err, catalog.ErrManifest), errors.Is(err, launcher.ErrSpec):
		e.Reason = "invalid_manifest"
	case errors.Is(err, catalog.ErrMissing) && strings.Contains(e.Message, catalog.ManifestName):
		e.Hint = "name a folder with a " + catalog.ManifestName + ", or a plugin's binary"
	case errors.Is(err, catalog.ErrMissing):
		e.Hint = "build the plugin first: its " + catalog.ManifestName + " names the file"
	case errors.Is(err, catalog.ErrChanged):
		e.Hint = "the file was built again after its SHA-256 was written: take sha256 out of the manifest, or conclave plugin pack it again"
	}
	return e
}

// sendPackage sends the files of a package in pieces. That the host does not want any
// more it says in its answer.
func sendPackage(p *catalog.Package, send func(*pluginv1.Piece) error) (err error) {
	defer func() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}()
	for _, file := range []struct {
		content []byte
		piece   func(b []byte) *pluginv1.Piece
	}{
		{p.Source, func(b []byte) *pluginv1.Piece { return &pluginv1.Piece{Part: &pluginv1.Piece_Manifest{Manifest: b}} }},
		{p.Signature, func(b []byte) *pluginv1.Piece { return &pluginv1.Piece{Part: &pluginv1.Piece_Signature{Signature: b}} }},
		{p.Descriptors, func(b []byte) *pluginv1.Piece {
			return &pluginv1.Piece{Part: &pluginv1.Piece_Descriptors{Descriptors: b}}
		}},
	} {
		for len(file.content) > 0 {
			n := min(len(file.content), pieceBytes)
			if err := send(file.piece(file.content[:n])); err != nil {
				return err
			}
			file.content = file.content[n:]
		}
	}
	f, err := p.OpenBinary()
	if err != nil {
		return packageError(p.Binary, err)
	}
	defer func() { _ = f.Close() }()
	return sendFile(f, func(b []byte) error { return send(&pluginv1.Piece{Part: &pluginv1.Piece_Binary{Binary: b}}) })
}

func sendFile(f io.Reader, send func([]byte) error) error {
	for {
		b := make([]byte, pieceBytes) // a message keeps what it was given
		n, err := io.ReadFull(f, b)
		if n > 0 {
			if err := send(b[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *app) pluginPackCommand() *cobra.Command {
	var to, key string
	cmd := &cobra.Command{
		Use:   "pack DIR --out DIR",
		Short: "Make the folder that a plugin is published as",
		Long: `pack copies what a plugin.yaml names, for every platform, into a new folder, with a
plugin.yaml that has the SHA-256 of each file; with --sign-key it is signed, in
minisign's format. The folder that it reads stays as it is.`,
		Example: `  conclave plugin pack . --out dist/ratelimit-1.2.0
  conclave plugin pack . --out dist/ratelimit-1.2.0 --sign-key ~/.keys/plugins.key`,
		Args: exactly(1, "DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if to == "" {
				return usage("invalid_out", "such as --out dist/NAME-VERSION", "--out: is missing")
			}
			var signer *catalog.SecretKey
			if key != "" {
				k, err := catalog.ReadSecretKey(key)
				if err != nil {
					return usage("invalid_sign-key", "make one with: conclave plugin keygen FILE", "--sign-key: %s", oneLine(err))
				}
				signer = &k
			}
			m, err := catalog.Seal(args[0], to, signer)
			switch {
			case errors.Is(err, fs.ErrExist):
				return &Error{Exit: ExitNotAcquired, Code: codeName(codes.AlreadyExists), Reason: "conflict", Message: to + " is there already",
					Hint: "remove it, or name another with --out", cause: err}
			case err != nil:
				return packageError(args[0], err)
			}
			packed := map[string]string{"name": m.Name, "version": m.Version, "path": to, "keyId": ""}
			if signer != nil {
				packed["keyId"] = signer.Public().ID()
			}
			return a.print(packed, [][]string{{m.Name, m.Version, to, packed["keyId"]}})
		},
	}
	cmd.Flags().StringVar(&to, "out", "", "the folder to make")
	cmd.Flags().StringVar(&key, "sign-key", "", "file of a secret key: conclave plugin keygen's, or minisign's without a password")
	return cmd
}

func (a *app) pluginKeygenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key to sign plugins with",
		Long: `keygen writes a secret key to FILE and its public half to FILE.pub, in minisign's
format. Nothing but the mode of FILE protects the secret. The line of the public half
belongs into plugins.keys of every host that is to trust it.`,
		Example: "  conclave plugin keygen ~/.keys/plugins.key",
		Args:    exactly(1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := catalog.NewSecretKey()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(args[0]), 0o700); err != nil {
				return err
			}
			for _, f := range []struct {
				path    string
				content []byte
				mode    fs.FileMode
			}{{args[0], k.File(), 0o600}, {args[0] + ".pub", k.Public().File(), 0o644}} {
				if err := writeNew(f.path, f.content, f.mode); err != nil {
					return err
				}
			}
			return a.print(map[string]string{"keyId": k.Public().ID(), "publicKey": k.Public().String(), "file": args[0]}, [][]string{{k.Public().ID(), k.Public().String()}})
		},
	}
}

// writeNew writes a file that is not there yet.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return &Error{Exit: ExitNotAcquired, Code: codeName(codes.AlreadyExists), Reason: "conflict", Message: path + " is there already", Hint: "name another file", cause: err}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
