// A receiver in Go (1.19 or later) with nothing but its standard library, behind what ends TLS: go run receiver.go
// SECRET_FILE holds the secrets that are accepted, one a line; INBOX is the folder where leads are kept; PORT is where to listen.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// verify: begin
func verify(rawBody []byte, header string, secrets []string) bool {
	digits := strings.TrimPrefix(header, "sha256=")
	tag, err := hex.DecodeString(digits)
	if digits == header || err != nil || digits != strings.ToLower(digits) {
		return false
	}
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(rawBody)
		if len(secret) == 50 && hmac.Equal(mac.Sum(nil), tag) {
			return true
		}
	}
	return false
}

// verify: end

const most = 1024 * 1024

// Of the signed body: headers are not signed by this scheme.
type event struct{ TenantID, LeadID, Event, LastConversationAt string }

// Writes the lead down, once; false: it is there already. In earnest: a row, and a unique index over the same.
func keep(of event, body []byte) (bool, error) {
	key, err := json.Marshal(of)
	if err != nil {
		return false, err
	}
	part, err := os.CreateTemp(os.Getenv("INBOX"), "*.part")
	if err != nil {
		return false, err
	}
	defer os.Remove(part.Name())
	if _, err = part.Write(body); err != nil {
		return false, err
	}
	if err = part.Close(); err != nil {
		return false, err
	}
	err = os.Link(part.Name(), fmt.Sprintf("%s/%x.json", os.Getenv("INBOX"), sha256.Sum256(key)))
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func receive(response http.ResponseWriter, request *http.Request) int {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, most))
	if err != nil {
		return http.StatusRequestEntityTooLarge
	}
	file, err := os.ReadFile(os.Getenv("SECRET_FILE"))
	if err != nil {
		log.Print(err)
		return http.StatusServiceUnavailable
	}
	if !verify(body, request.Header.Get("X-Wilow-Signature"), strings.Fields(string(file))) {
		return http.StatusUnauthorized
	}
	var lead event
	if err := json.Unmarshal(body, &lead); err != nil || lead.LeadID == "" || lead.Event == "" {
		return http.StatusUnprocessableEntity
	}
	told := "new"
	if strings.HasPrefix(lead.LeadID, "test_") { // A Test is no lead.
		told = "test"
	} else if isNew, err := keep(lead, body); err != nil {
		log.Print(err)
		return http.StatusServiceUnavailable
	} else if !isNew {
		told = "again"
	}
	fmt.Printf("%s %q\n", told, lead.LeadID)
	return http.StatusNoContent // It is written down; what takes longer comes afterwards.
}

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr().(*net.TCPAddr).Port)
	server := http.Server{ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	server.Handler = http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		response.WriteHeader(receive(response, request))
	})
	log.Fatal(server.Serve(listener))
}
