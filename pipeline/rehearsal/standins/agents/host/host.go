// Package host holds what both stand-in agents ask of the machine they run on.
package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// MetadataURL is the instance metadata service's address; only version 2 of it is spoken.
const MetadataURL = "http://169.254.169.254"

const patience = 5 * time.Second

// Identity is the part of the instance identity document that agents act on; Document is the whole of it.
type Identity struct {
	AccountID  string `json:"accountId"`
	InstanceID string `json:"instanceId"`
	Region     string `json:"region"`
	Document   json.RawMessage
}

// GetIdentity asks the metadata service at url for the instance identity document.
func GetIdentity(ctx context.Context, url string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	token, err := ask(ctx, http.MethodPut, url+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "60")
	if err != nil {
		return Identity{}, err
	}
	document, err := ask(ctx, http.MethodGet, url+"/latest/dynamic/instance-identity/document",
		"X-aws-ec2-metadata-token", string(token))
	if err != nil {
		return Identity{}, err
	}
	identity := Identity{Document: document}
	if err := json.Unmarshal(document, &identity); err != nil {
		return Identity{}, fmt.Errorf("the instance identity document is not JSON: %w", err)
	}
	if identity.AccountID == "" || identity.InstanceID == "" || identity.Region == "" {
		return Identity{}, fmt.Errorf("the instance identity document names no account, instance or region: %s", document)
	}
	return identity, nil
}

func ask(ctx context.Context, method, url, header, value string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set(header, strings.TrimSpace(value))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s answered %s", method, url, response.Status)
	}
	return io.ReadAll(response.Body)
}
