# A receiver in Ruby (3.0 or later) with nothing but its standard library, behind what ends TLS: ruby receiver.rb
# SECRET_FILE holds the secrets that are accepted, one a line; INBOX is the folder where leads are kept; PORT is where to listen.
require 'digest'
require 'json'
require 'openssl'
require 'securerandom'
require 'socket'
require 'timeout'

# verify: begin
def verify(raw_body, header, secrets)
  return false unless /\Asha256=\h{64}\z/.match?(header.to_s) && header == header.downcase

  keys = secrets.select { |secret| secret.length == 50 }
  tags = keys.map { |secret| 'sha256=' + OpenSSL::HMAC.hexdigest('SHA256', secret, raw_body) }
  tags.map { |tag| OpenSSL.fixed_length_secure_compare(tag, header) }.any?
end
# verify: end

MOST = 1024 * 1024
LINE = 8 * 1024

def secrets
  File.readlines(ENV.fetch('SECRET_FILE'), chomp: true).map(&:strip).reject(&:empty?)
end

# Writes the lead down, once; false: it is there already. In earnest: a row, and a unique index over the same.
def keep(key, body)
  inbox = ENV.fetch('INBOX')
  part = "#{inbox}/#{SecureRandom.uuid}.part"
  File.binwrite(part, body)
  File.link(part, "#{inbox}/#{Digest::SHA256.hexdigest(key)}.json")
  true
rescue Errno::EEXIST
  false
ensure
  File.unlink(part) if part && File.exist?(part)
end

# In earnest your web server does this; it is here to keep the sample to what Ruby brings. The headers, and the body's length.
def read_head(client)
  client.gets("\n", LINE)
  headers = {}
  while (line = client.gets("\n", LINE)&.chomp) && !line.empty? && headers.size < 100
    name, value = line.split(':', 2)
    headers[name.downcase] = value.to_s.strip
  end
  [headers, headers['content-length']]
end

def receive(client)
  headers, length = read_head(client)
  return '411 Length Required' unless /\A\d{1,18}\z/.match?(length.to_s)
  return '413 Content Too Large' if length.to_i > MOST

  body = client.read(length.to_i).to_s
  return '401 Unauthorized' unless verify(body, headers['x-wilow-signature'], secrets)

  return '422 Unprocessable Content' unless body.force_encoding('UTF-8').valid_encoding?

  lead = JSON.parse(body)
  named = lead.is_a?(Hash) && lead.values_at('leadId', 'event').all? { |value| value.is_a?(String) && !value.empty? }
  return '422 Unprocessable Content' unless named

  # Of the signed body: headers are not signed by this scheme.
  key = JSON.generate(lead.values_at('tenantId', 'leadId', 'event', 'lastConversationAt'))
  # A Test is no lead.
  told = lead['leadId'].start_with?('test_') ? 'test' : keep(key, body) ? 'new' : 'again'
  puts "#{told} #{JSON.generate(lead['leadId'])}"
  '204 No Content' # It is written down; what takes longer comes afterwards.
rescue JSON::ParserError
  '422 Unprocessable Content'
rescue SystemCallError, KeyError => e
  warn e.message
  '503 Service Unavailable'
end

def serve(client)
  status = Timeout.timeout(10) { receive(client) }
  client.write "HTTP/1.1 #{status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
rescue StandardError => e # A client that is still, or goes away in the middle.
  warn e.class
ensure
  client.close
end

$stdout.sync = true
server = TCPServer.new('127.0.0.1', Integer(ENV.fetch('PORT', '8080')))
puts "listening on #{server.addr[1]}"
loop { Thread.new(server.accept) { |client| serve(client) } }
