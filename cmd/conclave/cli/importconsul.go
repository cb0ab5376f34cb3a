package cli

import (
	"context"
	"net/http"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// consulAPI asks an agent. The certificates of the global flags are etcd's, so that https
// trusts the system's authorities.
func (*app) consulAPI(ctx context.Context, addr, tokenFile, datacenter, prefix string) (importer.Found, error) {
	token, err := secretIn("token-file", tokenFile)
	if err != nil {
		return importer.Found{}, err
	}
	return importer.FromConsul(ctx, http.DefaultClient, addr, token, datacenter, prefix)
}
