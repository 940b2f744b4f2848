// A receiver in Go, with nothing but its standard library: go run receiver.go
// SECRET_FILE holds the secrets that are accepted, one a line; PORT is where to listen.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
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
		if hmac.Equal(mac.Sum(nil), tag) {
			return true
		}
	}
	return false
}

// verify: end

const most = 1024 * 1024

var seen sync.Map // In earnest: a unique index in the database that the lead goes into.

func secrets() []string {
	file, err := os.ReadFile(os.Getenv("SECRET_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	return strings.Fields(string(file))
}

func receive(response http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, most))
	if err != nil {
		response.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	if !verify(body, request.Header.Get("X-Wilow-Signature"), secrets()) {
		response.WriteHeader(http.StatusUnauthorized)
		return
	}
	// Of the signed body: headers are not signed by this scheme.
	var lead struct{ LeadID, Event, LastConversationAt string }
	if err := json.Unmarshal(body, &lead); err != nil {
		response.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	_, isKnown := seen.LoadOrStore(lead, true)
	response.WriteHeader(http.StatusNoContent) // At once; what takes longer comes afterwards.
	if isKnown {
		lead.Event = "again"
	}
	fmt.Println(lead.Event, lead.LeadID)
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
	log.Fatal(http.Serve(listener, http.HandlerFunc(receive)))
}
