"""The ground floor: errors, contract, wire, aio, observe, settings. The only part of core that cloud and mappers import."""
