# A receiver in Ruby, with nothing but its standard library: ruby receiver.rb
# SECRET_FILE holds the secrets that are accepted, one a line; PORT is where to listen.
require 'json'
require 'openssl'
require 'set'
require 'socket'

# verify: begin
def verify(raw_body, header, secrets)
  return false unless /\Asha256=\h{64}\z/.match?(header.to_s) && header == header.downcase

  tags = secrets.map { |secret| 'sha256=' + OpenSSL::HMAC.hexdigest('SHA256', secret, raw_body) }
  tags.map { |tag| OpenSSL.fixed_length_secure_compare(tag, header) }.any?
end
# verify: end

MOST = 1024 * 1024
SEEN = Set.new # In earnest: a unique index in the database that the lead goes into.

def secrets
  File.readlines(ENV.fetch('SECRET_FILE'), chomp: true).map(&:strip).reject(&:empty?)
end

# In earnest your web server does this; it is here to keep the sample to what Ruby brings.
def read_request(client)
  client.gets
  headers = {}
  while (line = client.gets&.chomp) && !line.empty?
    name, value = line.split(':', 2)
    headers[name.downcase] = value.to_s.strip
  end
  length = headers['content-length'].to_i
  [headers, length > MOST ? nil : client.read(length).to_s]
end

def answer(client, status)
  client.write "HTTP/1.1 #{status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
  client.close
end

def receive(client)
  headers, body = read_request(client)
  return answer(client, '413 Content Too Large') unless body
  return answer(client, '401 Unauthorized') unless verify(body, headers['x-wilow-signature'], secrets)

  # Of the signed body: headers are not signed by this scheme.
  lead = JSON.parse(body).values_at('leadId', 'event', 'lastConversationAt')
  is_new = SEEN.add?(lead)
  answer(client, '204 No Content') # At once; what takes longer comes afterwards.
  puts "#{is_new ? lead[1] : 'again'} #{lead[0]}"
rescue StandardError # A client that goes away in the middle, or sends what is no request.
  client.close
end

$stdout.sync = true
server = TCPServer.new('127.0.0.1', Integer(ENV.fetch('PORT', '8080')))
puts "listening on #{server.addr[1]}"
loop { receive(server.accept) }
